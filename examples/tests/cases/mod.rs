mod approval;
mod azure;
mod children;
mod circuit_breaker;
mod client_libraries;
mod doc_examples;
mod documentation;
mod fan_out;
mod hello;
mod http;
mod http_api;
mod http_guide;
mod http_load;
mod monitor;
mod order;
mod order_azure;
mod program;
mod schedule;
mod trip;

// The unit tests that examples hold themselves: Cargo builds examples, but runs no tests in them.
#[allow(dead_code, reason = "its program is run as a process")]
#[path = "../../examples/approval.rs"]
mod approval_example;
#[allow(dead_code, reason = "its program is run as a process")]
#[path = "../../examples/children.rs"]
mod children_example;
#[allow(dead_code, reason = "its program is run as a process")]
#[path = "../../examples/circuit_breaker.rs"]
mod circuit_breaker_example;
#[allow(dead_code, reason = "its program is run as a process")]
#[path = "../../examples/http_api/orchestrators.rs"]
mod http_api_orchestrators;
#[allow(dead_code, reason = "its program is run as a process")]
#[path = "../../examples/monitor.rs"]
mod monitor_example;
#[allow(dead_code, reason = "its program is run as a process")]
#[path = "../../examples/schedule.rs"]
mod schedule_example;
#[allow(dead_code, reason = "its program is run as a process")]
#[path = "../../examples/trip.rs"]
mod trip_example;
