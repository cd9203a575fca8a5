mod documentation;
mod hello;
mod order;
mod program;
