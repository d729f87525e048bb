package job_test

import (
	"context"
	"testing"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store/memory"
)

func TestSmoke(t *testing.T) {
	var db memory.Store
	m, err := job.New(job.Config{DB: &db})
	if err != nil {
		t.Fatal(err)
	}
	type in struct{ N int }
	job.Handle(m, "x", func(ctx context.Context, a in) (int, error) { return a.N + 1, nil })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	j, err := m.Submit(ctx, job.Request{Args: in{4}})
	if err != nil {
		t.Fatal(err)
	}
	wctx, c2 := context.WithTimeout(ctx, 5*time.Second)
	defer c2()
	j, err = m.Wait(wctx, j.ID)
	if err != nil {
		t.Fatalf("%v %+v", err, j)
	}
	r, err := job.Result[int](j)
	t.Log(r, err, j.State)
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
