#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Holds the binary vectors against stock protoc: what `protoc --decode` prints must be the committed .pb.txt, and what
# `protoc --encode` makes of that text must be the vector again, byte for byte.
#
#   protoc.sh [--write] PROTO-DIR        --write: makes the .pb.txt files instead (after a change of the vectors)
set -eu
write=
if [ "${1-}" = --write ]; then write=1; shift; fi
dir=$1
failed=0
for binary in "$dir"/vectors/frame-*.bin "$dir"/vectors/heartbeat*.bin "$dir"/vectors/re*.bin "$dir"/vectors/answer-*.bin; do
    name=$(basename "$binary" .bin)
    case $name in
        frame-chunk-[012]|frame-varints|frame-blocks-whole) continue ;;  # large; frame-chunk-3 and frame-blocks stand for them
        frame-*) type=Frame ;;
        heartbeat*) type=Heartbeat ;;
        request-*) type=Request ;;
        record-*) type=Record ;;
        answer-*) type=Answer ;;
        *) echo "no message type for $binary"; exit 1 ;;
    esac
    text=$dir/vectors/$name.pb.txt
    decoded=$(protoc --proto_path="$dir" --decode="tallycast.v1.$type" tallycast.proto <"$binary") ||
        { echo "$name: protoc cannot decode it"; failed=1; continue; }
    if [ "$write" ]; then printf '%s\n' "$decoded" >"$text"; fi
    if ! printf '%s\n' "$decoded" | cmp -s - "$text"; then
        echo "$name: protoc --decode differs from $text"; failed=1
    fi
    if ! protoc --proto_path="$dir" --encode="tallycast.v1.$type" tallycast.proto <"$text" | cmp - "$binary"; then
        echo "$name: protoc --encode gives other bytes"; failed=1
    fi
done
exit $failed
