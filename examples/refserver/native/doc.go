// Package native is drover's own face of the reference server: JSON over HTTP under /v1. Commands are those of the registry, by
// POST /v1/commands/{name} with their parameters as one JSON object; an asynchronous one answers 202 and the job's Location.
// Failures are problems by RFC 9457. What has no route here is the operations API of package console.
//
// A caller is known by Authorization: Bearer key.secret over TLS or from loopback, or on a GET by a signed query as
// CloudStack's clients make it, of signature version 3. A signature covers neither path nor body, so it is refused on a POST.
package native
