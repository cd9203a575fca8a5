mod documentation;
mod hello;
mod order;
mod order_azure;
mod program;
