#!/bin/sh
# An agent that does not listen: it ignores SIGTERM, and so does the process that it starts.
trap '' TERM
echo 'started; SIGTERM means nothing to me'
while :; do sleep 1; done
