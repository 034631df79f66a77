#!/usr/bin/env bash
# Download COCO 2017 (train, val, annotations; 20 GB) and unpack it.
#
#   ./scripts/get_coco.sh [TARGET]      TARGET: data/coco in the checkout, where the shipped configs look
#
# Run it again after an interruption: it goes on where it stopped, and skips what is finished. Every zip is checked by
# size and MD5 before it is unpacked; until then it is called *.part.
#
#   COCO_URL=URL         another server of the same files (default: http://images.cocodataset.org)
#   COCO_MANIFEST=FILE   another list of files, with the columns of the list below (the tests use this)
#   PYTHON=COMMAND       the Python that unpacks (default: .venv's, else python3)
set -euo pipefail
unset CDPATH
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
url=${COCO_URL:-http://images.cocodataset.org}
max_attempts=5 # in a row without one new byte
retry_seconds=${COCO_RETRY_SECONDS:-5}

# path on the server | bytes | MD5 | bytes unpacked, rounded up | files that must lie in TARGET | how many of them
coco_2017() {
    cat <<'LIST'
annotations/annotations_trainval2017.zip   252907541 f4bbac642086de4f52a3fdda2de5fa2c   850000000 annotations/instances_*2017.json 2
zips/val2017.zip                           815585330 442b8da7639aecaf257c1dceb8ba8c80   850000000 val2017/*.jpg                   5000
zips/train2017.zip                       19336861798 cced6f7f71b7629ddf16f17bbcfab6b2 20000000000 train2017/*.jpg                 118287
LIST
}

stop() {
    local code=$1
    shift
    printf 'get_coco: %s\n' "$@" >&2
    exit "$code"
}

# The size of the file $1 in bytes, 0 where there is none.
bytes_of() {
    if [ -e "$1" ]; then stat -c %s -- "$1"; else echo 0; fi
}

# Whether the $2 files that match $1 are there, and no unpacking of the zip $3 was cut off.
is_finished() {
    [ ! -e "$3.unpacking" ] && [ -d "${1%/*}" ] && [ "$(find "${1%/*}" -maxdepth 1 -name "${1##*/}" | wc -l)" -ge "$2" ]
}

check_disk() {
    local needed=0 available path bytes md5 unpacked files count zip present
    while read -r path bytes md5 unpacked files count; do
        zip=${path##*/}
        is_finished "$files" "$count" "$zip" && continue
        present=$(($(bytes_of "$zip") + $(bytes_of "$zip.part")))
        needed=$((needed + bytes - (present < bytes ? present : bytes) + unpacked))
    done <<<"$manifest"
    available=$(df -P -B1 . | awk 'NR == 2 { print $4 }')
    [ "$available" -ge "$needed" ] || stop 2 "$PWD has $available bytes free; the zips and what is in them need $needed." \
        "Make room, or name a folder on another disk: ./scripts/get_coco.sh TARGET"
}

# Bring the file $1.part to its full size $3 from the address $2, going on behind what is there.
download() {
    local part=$1.part source=$2 bytes=$3 failures=0 before code
    [ "$(bytes_of "$part")" -le "$bytes" ] || rm -f "$part"
    while [ "$(bytes_of "$part")" -lt "$bytes" ]; do
        before=$(bytes_of "$part")
        code=0
        # Without curl's --retry: that starts each time from where the first attempt did.
        curl --fail --location --connect-timeout 30 --speed-limit 1000 --speed-time 60 "${curl_output[@]}" \
            --continue-at - --output "$part" "$source" || code=$?
        case $code in
            0) return ;; # a wrong size is found with the checksum
            33)
                echo "get_coco: the server cannot resume; $1 starts anew"
                rm -f "$part"
                ;;
        esac
        if [ "$(bytes_of "$part")" -gt "$before" ]; then failures=0; else failures=$((failures + 1)); fi
        [ "$failures" -lt "$max_attempts" ] || stop 1 "cannot download $source (curl's exit code: $code)." \
            "Run this again to go on behind the $(bytes_of "$part") bytes that are here."
        sleep "$retry_seconds"
    done
}

# Give $1.part its final name if it has the size $2 and the MD5 $3; delete it if not.
accept() {
    local part=$1.part found_bytes found_md5
    found_bytes=$(bytes_of "$part")
    found_md5=$(md5sum <"$part")
    found_md5=${found_md5%% *}
    if [ "$found_bytes" != "$2" ] || [ "$found_md5" != "$3" ]; then
        rm -f "$part"
        stop 1 "$1 is not the file it should be, and is deleted." "expected $2 bytes, MD5 $3" \
            "found    $found_bytes bytes, MD5 $found_md5" "Run this again to download it anew."
    fi
    mv "$part" "$1"
}

fetch() {
    local path=$1 bytes=$2 md5=$3 files=$5 count=$6 zip=${1##*/}
    if is_finished "$files" "$count" "$zip"; then
        echo "get_coco: $zip: finished, $count files are there"
        return
    fi
    if [ -e "$zip" ]; then
        mv "$zip" "$zip.part" # perhaps someone else put it there: it is checked like the others
    fi
    echo "get_coco: $zip: downloading $((bytes / 1000000)) MB"
    download "$zip" "$url/$path" "$bytes"
    echo "get_coco: $zip: checking"
    accept "$zip" "$bytes" "$md5"
    echo "get_coco: $zip: unpacking"
    touch "$zip.unpacking"
    "$python" -m zipfile -e "$zip" .
    rm "$zip.unpacking"
    is_finished "$files" "$count" "$zip" || stop 1 "$zip was unpacked, but fewer than $count files match $PWD/$files."
}

case ${1:-} in
    -*) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; [[ $1 == -h || $1 == --help ]] && exit 0 || exit 2 ;;
esac
[ $# -le 1 ] || stop 2 "expected one folder, found $#: $*"
command -v curl >/dev/null || stop 2 "the system package curl is missing: sudo apt-get install -y curl"
python=python3
[ ! -x "$root/.venv/bin/python" ] || python=$root/.venv/bin/python
if [ -n "${PYTHON:-}" ]; then python=$(command -v -- "$PYTHON") || stop 2 "PYTHON=$PYTHON: no such command"; fi
python=$(realpath -s -- "$(command -v -- "$python")") # before the folder changes
manifest=$(if [ -n "${COCO_MANIFEST:-}" ]; then cat -- "$COCO_MANIFEST"; else coco_2017; fi)
curl_output=(--progress-bar)
[ -t 2 ] || curl_output=(--silent --show-error)

target=${1:-$root/data/coco}
mkdir -p -- "$target"
cd -- "$target"
check_disk
while read -r path bytes md5 unpacked files count; do
    fetch "$path" "$bytes" "$md5" "$unpacked" "$files" "$count"
done <<<"$manifest"
echo "get_coco: COCO 2017 is complete in $PWD. The zips there are no longer needed."
