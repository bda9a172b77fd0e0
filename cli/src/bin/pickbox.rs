//! People's tool.
fn main() {}
