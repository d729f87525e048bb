// Package errtext reads errors that may be broken.
package errtext

import "fmt"

// Of is err.Error(), also of an error whose method panics: then its type.
func Of(err error) (s string) {
	defer func() {
		if v := recover(); v != nil {
			s = fmt.Sprintf("%T", err)
		}
	}()
	return err.Error()
}
