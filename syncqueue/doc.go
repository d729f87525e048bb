// Package syncqueue makes work on the same thing take turns.
package syncqueue
