#!/bin/sh
# An exec agent: one process per task. The task's input comes on standard input, its result goes to
# standard output, and the exit code says what became of it: 65 for an input that can never work.
words=$(wc -w)
[ "$words" -gt 0 ] || { echo 'nothing to count' >&2; exit 65; }
printf '{"words": %d}\n' "$words"
