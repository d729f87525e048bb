// Package browsertest drives the console with a real browser. It is a module of its own, so that what drives the browser reaches
// no user of the library.
package browsertest
