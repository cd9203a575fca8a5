mod approval;
mod documentation;
mod fan_out;
mod hello;
mod order;
mod order_azure;
mod program;
