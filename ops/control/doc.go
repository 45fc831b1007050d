// Package control is the administration of a running nat64d: HTTP and JSON on a unix socket. It holds the types that
// travel, the server that the daemon runs over a Backend, and the client that nat64ctl is made of. It implements no
// RFC and knows no other part of the gateway, so that its types are free to stay as they are while those change.
//
// Short answers are one JSON object or array. Listings without a bound (bindings, sessions) are newline-delimited
// JSON, one line an entry, closed by an end line: a listing without it is not complete. A refusal is an Error with
// status 4xx.
package control

// DefaultSocket is where nat64d listens unless its configuration says otherwise.
const DefaultSocket = "/run/nat64d/nat64d.sock"
