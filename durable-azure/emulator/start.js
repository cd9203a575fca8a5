// Runs Azurite for as long as standard input stays open, so that it never outlives whoever started it,
// however that ended. The arguments are Azurite's.
"use strict";

const leave = () => process.exit(0);
process.stdin.once("end", leave).once("error", leave).resume();

require("azurite/dist/src/azurite.js");
