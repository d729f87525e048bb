// Package clienttest drives the reference server with the unmodified CloudStack Go SDK. It is a module of its own, so that
// the SDK never reaches the library's go.mod.
package clienttest
