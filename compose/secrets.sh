#!/bin/sh
# Makes the passwords of a hub: secrets/broker-password, monitor-password, flower-password, grafana-password, and the broker's users.
#
#   ./secrets.sh [FOLDER]
#
# GPU machines and producers need secrets/broker-password, and nothing else of it. What is there is left as it is.
set -eu
umask 077

folder=${1:-secrets}
mkdir -p "$folder"
chmod 700 "$folder" # files below it are readable in a container by whoever the service runs as; here nobody gets that far
for name in broker monitor flower grafana; do
  [ -e "$folder/$name-password" ] || openssl rand -hex 24 >"$folder/$name-password"
done

hash_of() { tr -d '\n' <"$folder/$1-password" | openssl dgst -sha256 -r | cut -d' ' -f1; }
# The user of workers and producers may do all but administer the server; that of `kotae metrics` and of health checks only look.
cat >"$folder/users.acl" <<END
user default off
user kotae on #$(hash_of broker) ~* &* +@all -@admin -@dangerous +info
user monitor on #$(hash_of monitor) ~* resetchannels -@all +@read +@connection +ping +info -keys
END
chmod 644 "$folder"/*
echo "$folder: passwords of broker, monitor, flower and grafana"
