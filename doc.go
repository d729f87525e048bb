// Package drover is the orchestration core of a cloud as a library.
package drover
