#!/bin/sh
# Calls the CloudStack face: sh api.sh listVirtualMachines [name=value ...], signed with the key in admin.env beside this script.
. "$(dirname "$0")/admin.env"
command=$1 && shift
encode() { printf %s "${1#*=}" | od -An -v -tx1 | awk -v name="${1%%=*}" '
  BEGIN { for (i = 1; i < 127; i++) c[sprintf("%02x", i)] = sprintf("%c", i); printf "%s=", name }
  { for (i = 1; i <= NF; i++) printf "%s", c[$i] ~ /[A-Za-z0-9._*~-]/ ? c[$i] : "%" $i } END { print "" }'; }
query=$(for p in "apiKey=$DROVER_API_KEY" "command=$command" response=json "$@"; do encode "$p"; done | LC_ALL=C sort | paste -sd '&' -)
signature=$(printf %s "$query" | tr 'A-Z' 'a-z' | openssl dgst -sha1 -hmac "$DROVER_API_SECRET" -binary | openssl base64)
curl -gsS "$DROVER_ENDPOINT?$query&$(encode "signature=$signature")"
echo
