#!/bin/sh
# Stands in for a node where its process is all that matters: it starts, stops and is dumped, and serves nobody.
# Files in its data folder make it behave badly: `damaged` (refuses to start and to be dumped), `stubborn`
# (does not obey SIGTERM), `fragile` (ends with code 7 when it is removed).
case "$1" in
--version)
    echo "stand-in 1.0"
    exit 0
    ;;
dump)
    echo '{"the first line of":"a dump"}'
    if [ -e "$3/damaged" ]; then
        echo "$3/log: damaged at byte 7" >&2
        exit 1
    fi
    exit 0
    ;;
esac
shift
while [ $# -gt 1 ]; do
    if [ "$1" = --data-dir ]; then data=$2; fi
    shift 2
done
if [ -e "$data/damaged" ]; then
    echo "refusing to start on a damaged log" >&2
    exit 3
fi
if [ -e "$data/stubborn" ]; then trap '' TERM; else trap 'exit 0' TERM; fi
fragile=$(test -e "$data/fragile" && echo yes)
echo "$$" >>"$data/starts"
turns=0
while [ $turns -lt 6000 ]; do
    if [ "$fragile" ] && [ ! -e "$data/fragile" ]; then exit 7; fi
    # In the background: sh handles no signal while it waits for a command in the foreground.
    sleep 0.1 &
    wait $!
    turns=$((turns + 1))
done
