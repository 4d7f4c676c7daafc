#!/bin/sh
# Makes an authority for a private network and a certificate for each machine of a fleet, with openssl.
#
#   ./certificates.sh FOLDER MACHINE[,OTHER-NAME-OR-ADDRESS...] ...
#   ./certificates.sh tls hub,10.0.0.1 gpu1,10.0.0.11 gpu2,10.0.0.12
#
# FOLDER/MACHINE then holds cert.pem, key.pem and ca.pem: all that this machine needs, and nothing that another must keep secret.
# FOLDER/ca-key.pem signs further machines: keep it where you ran this. Run again, it adds machines and leaves those there are.
set -eu
umask 077

[ $# -ge 2 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }
folder=$1
shift
days=825

mkdir -p "$folder"
chmod 700 "$folder" # keys below it are readable in a container by whoever the service runs as; here nobody gets that far
if [ ! -e "$folder/ca-key.pem" ]; then
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 3650 -subj "/CN=Kotae fleet" \
    -addext "keyUsage=critical,keyCertSign,cRLSign" -keyout "$folder/ca-key.pem" -out "$folder/ca.pem" 2>/dev/null
fi

for machine in "$@"; do
  name=${machine%%,*}
  if [ -e "$folder/$name/cert.pem" ]; then
    echo "$folder/$name is there already"
    continue
  fi
  names="DNS:localhost,IP:127.0.0.1"
  for one in $(echo "$machine" | tr ',' ' '); do
    case $one in
      *[!0-9.]*) case $one in *:*) names="$names,IP:$one" ;; *) names="$names,DNS:$one" ;; esac ;;
      *) names="$names,IP:$one" ;;
    esac
  done
  new=$(mktemp -d "$folder/new.XXXXXX")
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -subj "/CN=$name" -keyout "$new/key.pem" -out "$new/request" 2>/dev/null
  printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\n' "$names" >"$new/extensions"
  openssl x509 -req -in "$new/request" -CA "$folder/ca.pem" -CAkey "$folder/ca-key.pem" -CAcreateserial -days "$days" \
    -extfile "$new/extensions" -out "$new/cert.pem" 2>/dev/null
  rm "$new/request" "$new/extensions"
  cp "$folder/ca.pem" "$new/ca.pem"
  chmod 755 "$new"
  chmod 644 "$new"/*.pem
  mv "$new" "$folder/$name"
  echo "$folder/$name: $names"
done
