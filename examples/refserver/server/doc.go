// Package server wires the reference server: flags to a Config, a Config to a running node. main and tests share it.
package server
