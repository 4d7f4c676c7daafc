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
# The user of workers and producers may do all but administer the server. That of `kotae metrics` and of health checks may count rows and
# see which workers live; it reads no question and no answer.
cat >"$folder/users.acl" <<END
user default off
user kotae on #$(hash_of broker) ~* &* +@all -@admin -@dangerous +info
user monitor on #$(hash_of monitor) ~kotae.* ~unacked resetchannels -@all +@connection -@admin -@dangerous +info +scan +llen +hlen +mget
END
chmod 644 "$folder"/*
echo "$folder: passwords of broker, monitor, flower and grafana"
