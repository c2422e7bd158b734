#!/bin/sh
# Copies a built library to where it is loaded from, without debug information, which goes beside it.
set -eu
mkdir -p "$(dirname "$2")"
if command -v objcopy >/dev/null && [ "$(uname -s)" = Linux ]; then
    objcopy --only-keep-debug "$1" "$2.debug"
    objcopy --strip-all --add-gnu-debuglink="$2.debug" "$1" "$2.new"
else
    cp "$1" "$2.new"
    strip -x "$2.new" 2>/dev/null || true
fi
# A process that has the old file loaded keeps it.
mv -f "$2.new" "$2"
echo "$2: $(du -h "$2" | cut -f1)"
