#!/bin/sh
# Replays the seeds of every fuzz target and says how many there were. Run by `make check`.
seeds="${srcdir:-.}/tests/fuzz/seeds"
failed=0
for target in fuzz_mqtt fuzz_http_head fuzz_ipc fuzz_tls_record fuzz_progress; do
    if ! count=$("./$target" "$seeds/$target"); then
        echo "$target: a seed failed"
        failed=1
    elif [ "$count" -eq 0 ]; then
        echo "$target: no seeds in $seeds/$target"
        failed=1
    else
        echo "$target: $count seeds replayed"
    fi
done
exit $failed
