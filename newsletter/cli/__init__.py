"""The operators' and editors' door: commands, their output and their exit codes. No rules."""
