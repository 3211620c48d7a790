#!/bin/sh
# A device's `kinglet update` as far as the laptop sees it; its store is a folder of plain files. What it does with a
# release is said by files there: `refuse`, `go-back`, `trial` (questions until the trial ends, 1 without), `slow`.
set -eu
[ "$1" = update ] || exit 2
command=$2; shift 2
store=/nowhere kind=model older=no
while [ $# -gt 0 ]; do
    case $1 in
    --kind) kind=$2; shift ;;
    --store) store=$2; shift ;;
    --allow-downgrade) older=yes ;;
    --json) ;;
    --trial | --max-slowdown | --min-agreement | --public-key) echo "$1 $2" >>"$store/wishes"; shift ;;
    *) echo "error: unexpected argument $1" >&2; exit 2 ;;
    esac
    shift
done
mkdir -p "$store"; cd "$store"
get() { cat "$1" 2>/dev/null || echo "$2"; }
case $command in
install)
    signature=$(dd bs=1 count=8 2>/dev/null); payload=$(dd bs=1 count=12 2>/dev/null)
    dd bs=1 count="$(echo "$signature" | sed 's/^0*//')" of=signature 2>/dev/null
    cat >payload
    [ "$(wc -c <payload)" -eq "$(echo "$payload" | sed 's/^0*//')" ] || { echo "error: the stream ends too early" >&2; exit 1; }
    echo '{"step":"received"}'
    [ ! -e refuse ] || { echo "note: something else" >&2; echo "error: the signature is another key's" >&2; exit 4; }
    release=$(sed -n 's/^trusted comment: kinglet kind=.* release=\([0-9]*\) .*/\1/p' signature)
    [ $older = yes ] || [ "$release" -gt "$(get release 0)" ] || { echo "error: release $release is older than $(get release 0)" >&2; exit 5; }
    echo '{"step":"verified"}'; echo '{"step":"self-tested"}'
    get release 0 >previous; get sha256 '' >previous-sha256
    echo "$release" >release; sha256sum <payload | cut -c1-64 >sha256
    echo trial >state; echo installed >outcome; get trial 1 >left
    echo "{\"step\":\"switched\",\"release\":$release,\"slot\":\"b\",\"unchanged\":false}"
    if [ -e idle ]; then echo '{"step":"told","pid":null}'; else echo '{"step":"told","pid":123}'; fi ;;
status)
    if [ "$(get state none)" = trial ]; then
        left=$(get left 1)
        if [ "$left" -gt 0 ]; then echo $((left - 1)) >left
        elif [ -e go-back ]; then
            mv previous release; mv previous-sha256 sha256; echo good >state; echo "rolled back" >outcome
        else echo good >state; echo confirmed >outcome; fi
    fi
    track="{\"slot\":\"b\",\"release\":$(get release 0),\"sha256\":\"$(get sha256 '')\",\"name\":\"m.onnx\",\"state\":\"$(get state good)\",
    \"tries\":1,\"last\":{\"outcome\":\"$(get outcome none)\",\"why\":\"median 9.1 ms, 2.4 times as slow\"}}"
    [ -e release ] || track=null
    if [ $kind = model ]; then echo "{\"model\":$track,\"app\":null}"; else echo "{\"model\":null,\"app\":$track}"; fi ;;
rollback)
    [ -e previous ] || { echo "error: there is nothing to go back to" >&2; exit 1; }
    mv previous release; mv previous-sha256 sha256; echo good >state; echo "rolled back" >outcome ;;
*) exit 2 ;;
esac
