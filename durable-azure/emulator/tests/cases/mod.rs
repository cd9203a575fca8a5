mod account;
mod process;
mod proxy;
