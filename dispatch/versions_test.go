package dispatch_test

import (
	"context"
	"errors"
	"testing"

	"github.com/drover-cloud/drover/dispatch"
)

func TestVersions(t *testing.T) {
	var r dispatch.Registry
	for _, v := range []string{"1", "2", "10"} {
		opts := []dispatch.Option{dispatch.Version(v)}
		if v == "10" {
			opts = append(opts, dispatch.Deprecated("2"))
		}
		dispatch.Sync(&r, "c", func(context.Context, empty) (string, error) { return v, nil }, opts...)
	}
	for asked, want := range map[string]string{"": "2", "1": "1", "10": "10"} {
		if out, err := r.Dispatch(t.Context(), &dispatch.Command{Name: "c", Version: asked}); err != nil || out != want {
			t.Errorf("%q: %v %v", asked, out, err)
		}
	}
	if _, err := r.Dispatch(t.Context(), &dispatch.Command{Name: "c", Version: "3"}); !errors.Is(err, dispatch.ErrUnknown) {
		t.Error(err)
	}
}
