package storetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/testkit"
)

func records(t *testing.T, open func(t testing.TB) testkit.Stores) {
	db := open(t).Records()
	want := func(host, topic, version string) {
		t.Helper()
		r, found, err := db.Load(t.Context(), host, topic)
		if err != nil || found != (version != "") || found && r != (drover.Record{Host: host, Topic: topic, Version: version}) {
			t.Errorf("%s %s: %+v, %v, %v; want version %q", host, topic, r, found, err, version)
		}
	}
	want("h", "compute", "")
	for _, r := range []drover.Record{{Host: "h", Topic: "compute", Version: "1"}, {Host: "h", Topic: "network", Version: "2"}, {Host: "g"}} {
		if err := db.Create(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	want("h", "compute", "1")
	want("h", "network", "2")
	want("g", "compute", "")
	if r, found, err := db.Load(t.Context(), "g", ""); !found || err != nil || r != (drover.Record{Host: "g"}) {
		t.Error(r, found, err)
	}
	if err := db.Create(t.Context(), drover.Record{Host: "h", Topic: "compute", Version: "3"}); !errors.Is(err, drover.ErrExists) {
		t.Errorf("created twice: %v", err)
	}
	want("h", "compute", "1")
	if err := db.Save(t.Context(), drover.Record{Host: "h", Topic: "compute", Version: "4"}); err != nil {
		t.Error(err)
	}
	want("h", "compute", "4")
	want("h", "network", "2")
	var wg sync.WaitGroup
	made := make(chan string, 8)
	for i := range 8 {
		wg.Go(func() {
			version := fmt.Sprint(i)
			switch err := db.Create(t.Context(), drover.Record{Host: "race", Topic: "x", Version: version}); {
			case err == nil:
				made <- version
			case !errors.Is(err, drover.ErrExists):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	close(made)
	if len(made) != 1 {
		t.Fatalf("%d of 8 created the same record", len(made))
	}
	want("race", "x", <-made)
}
