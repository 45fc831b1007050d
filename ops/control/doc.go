// Package control implements the administration of a running nat64d: HTTP and JSON on a unix socket. It contains the
// types of the API, the server, which calls a Backend, and the client for nat64ctl. It implements no RFC and imports
// no other package of the gateway, so the API stays stable while those change.
//
// Short answers are one JSON object or array. Listings of unlimited length (bindings, sessions) are newline-delimited
// JSON: one line per entry and an end line. A listing without the end line is incomplete. A refusal is an Error with
// status 4xx.
package control

// DefaultSocket is the socket of nat64d unless its configuration sets another.
const DefaultSocket = "/run/nat64d/nat64d.sock"
