// Command hosttx keeps rows of its own and its jobs in one bun transaction: both are committed, or neither.
//
//	go run ./examples/hosttx              # on an SQLite file in a temporary directory
//	go run ./examples/hosttx -db vms.db   # on a file that stays
package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	_ "modernc.org/sqlite"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store/sqlite"
)

// VM is a row of the host's own table.
type VM struct {
	bun.BaseModel `bun:"table:vm"`

	ID    string `bun:",pk"`
	State string
}

// StartVM and Started are what the job is given and what it answers.
type (
	StartVM struct{ ID string }
	Started struct{ Host string }
)

type cloud struct {
	db   *bun.DB
	st   *sqlite.Store // on PostgreSQL: *postgres.Store, and nothing else changes below
	jobs *job.Manager
}

// createVM stores the VM and the job that starts it.
func (c *cloud) createVM(ctx context.Context, vm *VM) (id string, err error) {
	err = c.db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		if _, err := tx.NewInsert().Model(vm).Exec(ctx); err != nil {
			return err
		}
		j, err := c.jobs.SubmitTx(ctx, c.st.Join(tx), job.Request{Kind: "vm.start", Args: StartVM{vm.ID}})
		if err != nil {
			return err
		}
		id = j.ID
		if vm.State == "refused" {
			return errors.New("the host changed its mind")
		}
		return nil
	})
	return id, err
}

// startVM is the handler. It changes the row and seals its outcome in one transaction, so the change is made exactly once.
func (c *cloud) startVM(ctx context.Context, a StartVM) (Started, error) {
	out := Started{Host: "h1"}
	err := c.db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		if _, err := tx.NewUpdate().Model(&VM{ID: a.ID, State: "running"}).WherePK().Exec(ctx); err != nil {
			return err
		}
		return job.FinishTx(ctx, c.st.Join(tx), out)
	})
	return out, err
}

// client is what the host's API would do.
func (c *cloud) client(ctx context.Context) error {
	id, err := c.createVM(ctx, &VM{ID: "web", State: "starting"})
	if err != nil {
		return err
	}
	j, err := c.jobs.Wait(ctx, id)
	if err != nil {
		return err
	}
	r, err := job.Result[Started](j)
	if err != nil {
		return err
	}
	vm := &VM{ID: "web"}
	if err := c.db.NewSelect().Model(vm).WherePK().Scan(ctx); err != nil {
		return err
	}
	fmt.Printf("job %s on %s, VM %s\n", j.State, r.Host, vm.State)

	id, err = c.createVM(ctx, &VM{ID: "db", State: "refused"})
	fmt.Println("rolled back:", err)
	n, err := c.db.NewSelect().Model((*VM)(nil)).Where("id = ?", "db").Count(ctx)
	if err != nil {
		return err
	}
	_, err = c.jobs.Get(ctx, id)
	fmt.Printf("%d rows, no job: %v\n", n, errors.Is(err, job.ErrNotFound))
	return nil
}

func open(ctx context.Context, path string) (*cloud, error) {
	dsn, err := sqlite.DSN(path)
	if err != nil {
		return nil, err
	}
	sqldb, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, err
	}
	c := &cloud{db: bun.NewDB(sqldb, sqlitedialect.New())}
	c.st = sqlite.New(c.db, sqlite.Config{})
	if err := c.st.Migrate(ctx); err != nil {
		return nil, err
	}
	if err := c.db.ResetModel(ctx, (*VM)(nil)); err != nil { // drops and makes the example's own table
		return nil, err
	}
	if c.jobs, err = job.New(job.Config{DB: c.st}); err != nil {
		return nil, err
	}
	job.Handle(c.jobs, "vm.start", c.startVM)
	return c, nil
}

func run(ctx context.Context, path string) error {
	if path == "" {
		dir, err := os.MkdirTemp("", "hosttx")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(dir) }()
		path = filepath.Join(dir, "vms.db")
	}
	c, err := open(ctx, path)
	if err != nil {
		return err
	}
	defer func() { _ = c.db.Close() }()
	var g drover.Group
	g.Add("jobs", c.jobs)
	g.Add("client", drover.Func(c.client))
	return g.Run(ctx)
}

func main() {
	path := flag.String("db", "", "SQLite file; none = a temporary one")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *path); err != nil {
		log.Fatal(err)
	}
}
