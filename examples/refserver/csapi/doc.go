// Package csapi is the CloudStack face of the reference server: the query API at /client/api, spoken by unmodified CloudStack
// clients. It turns a request into a dispatch.Command and the answer, or the one error type, into CloudStack's envelopes. It knows
// no machines: commands are registered by package cloud.
//
// # Guarantees
//
//   - Every answer on its path is one JSON object with one key, errors, panics and refusals of transport included; the HTTP status
//     of an error is its errorcode.
//   - Unknown key, wrong or missing signature and an expired request are told apart by nobody: one answer, the same work.
//   - A result that is not there yet is waited for (Hold) with one subscription per job, however many ask.
//
// # Not guaranteed
//
//   - The scheme signs lower-cased text with HMAC-SHA1: it does not protect the letter case of values, and nothing is
//     protected from replay but by expires. Use TLS.
package csapi
