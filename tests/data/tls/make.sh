#!/bin/sh
# Makes the certificates here, for tests/llm/test_tls.py: those of an authority of nobody's, and one
# that signed itself. They begin long ago, so that a clock that is behind accepts them too.
set -e
made=$(mktemp -d)
trap 'rm -r "$made"' EXIT
touch "$made/index"
cat > "$made/config" <<CONFIG
[ca]
default_ca = nobody
[nobody]
database = $made/index
new_certs_dir = $made
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
copy_extensions = copy
[any]
commonName = supplied
[authority]
basicConstraints = critical,CA:true
[req]
distinguished_name = name
[name]
CONFIG
sign() { # name, subject alternative name, end, and how it is signed
    name=$1 names=$2 end=$3
    shift 3
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -config "$made/config" \
        -keyout "$made/$name.key" -subj "/CN=$name" -addext "subjectAltName=$names" \
        -out "$made/$name.csr"
    openssl ca -batch -notext -config "$made/config" -in "$made/$name.csr" \
        -startdate 20200101000000Z -enddate "$end" "$@" -out "$made/$name.crt"
}
serve() { # what a server needs of each
    cat "$made/$1.key" "$made/$1.crt" > "$1.pem"
}
never=21200101000000Z
sign authority "DNS:nobody.example" $never \
    -selfsign -keyfile "$made/authority.key" -extensions authority
by_authority="-cert $made/authority.crt -keyfile $made/authority.key"
sign good "IP:127.0.0.1" $never $by_authority
sign expired "IP:127.0.0.1" 20210101000000Z $by_authority
sign other-host "DNS:other.example" $never $by_authority
sign self-signed "IP:127.0.0.1" $never -selfsign -keyfile "$made/self-signed.key"
for name in good expired other-host self-signed; do serve $name; done
cp "$made/authority.crt" authority.pem
