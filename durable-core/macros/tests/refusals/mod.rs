//! Programs that the attributes refuse, each with the sentences it gets.
//!
//! The file beside a program holds what the compiler says. `TRYBUILD=overwrite` writes it anew; read it
//! then, as whoever wrote that program would.

/// One run for all of them: it compiles `durable-core` once more.
#[test]
fn a_program_that_breaks_a_rule_is_told_which_and_what_to_write_instead() {
    trybuild::TestCases::new().compile_fail("tests/refusals/programs/*.rs");
}
