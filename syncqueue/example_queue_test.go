package syncqueue_test

import (
	"context"
	"fmt"

	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/memory"
	"github.com/drover-cloud/drover/syncqueue"
)

// A host's own work takes turns: an operator looks at the line and moves what is urgent to its head.
func ExampleQueue_MoveFirst() {
	ctx, db := context.Background(), &memory.Store{}
	q, err := syncqueue.New(syncqueue.Config{Tx: db, Store: db.Queues()})
	if err != nil {
		fmt.Println(err)
		return
	}
	host := syncqueue.Key{Kind: "host", ID: "h7"}
	_ = db.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		for _, what := range []string{"patch", "reboot", "evacuate"} {
			if _, err := q.Enter(ctx, tx, host, what); err != nil {
				return err
			}
		}
		return nil
	})
	line, _ := q.List(ctx, host)
	_ = q.MoveFirst(ctx, line[2].Seq)
	for {
		var taken []syncqueue.Item
		err := db.InTx(ctx, func(ctx context.Context, tx store.Tx) (err error) {
			if taken, err = q.Take(ctx, tx, "worker-1", 1); err != nil || len(taken) == 0 {
				return err
			}
			return q.Release(ctx, tx, taken[0]) // when it is done
		})
		if err != nil || len(taken) == 0 {
			return
		}
		fmt.Println(taken[0].Content)
	}
	// Output:
	// evacuate
	// patch
	// reboot
}
