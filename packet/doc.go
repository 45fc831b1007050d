// Package packet reads and writes the bytes of packets: header views, transport addresses, checksums and offload
// metadata, and nothing else (RFC 8200, RFC 791, RFC 9293, RFC 768, RFC 4443, RFC 792).
package packet
