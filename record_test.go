package drover_test

import (
	"testing"

	"github.com/drover-cloud/drover"
)

func TestSpecRecord(t *testing.T) {
	bubble(t, "service-03 no record under a name drawn anew", func(t *testing.T) {
		r, env := new(recorder), quiet()
		env.Node = ""
		s := &drover.Service{Env: env, Topic: "x", Version: "1", Record: &records{r: r}}
		end := runs(t, s)
		settled(0)
		_ = s.Close()
		if err := end(); err != nil {
			t.Error(err)
		}
		r.check(t)
	})
}
