/* Stores through a shared mapping: mapped PATH OFFSET LENGTH PAUSE_MS
 * Opens and maps the file, closes the descriptor, says "ready", reads LENGTH bytes, stores them in
 * two halves with a pause between, syncs the mapping and takes it down. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	if (argc != 5)
		return 2;
	size_t offset = strtoul(argv[2], 0, 10), length = strtoul(argv[3], 0, 10);
	unsigned long pause = strtoul(argv[4], 0, 10);
	struct stat stat;
	int fd = open(argv[1], O_RDWR);
	if (fd < 0 || fstat(fd, &stat) || (size_t)stat.st_size < offset + length)
		return 3;
	char *map = mmap(0, stat.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	char *bytes = malloc(length);
	if (map == MAP_FAILED || !bytes || close(fd))
		return 4;
	puts("ready");
	fflush(stdout);
	if (fread(bytes, 1, length, stdin) != length)
		return 5;
	size_t half = length / 2;
	memcpy(map + offset, bytes, half);
	usleep(pause * 1000);
	memcpy(map + offset + half, bytes + half, length - half);
	return msync(map, stat.st_size, MS_SYNC) || munmap(map, stat.st_size) ? 6 : 0;
}
