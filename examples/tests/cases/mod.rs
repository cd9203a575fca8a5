mod hello;
mod order;
mod program;
