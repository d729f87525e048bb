// Command flow-durable creates a VM in steps, as a job. Its process is killed in the middle; the next one goes on where that was.
//
//	go run ./examples/flow-durable
package main

import (
	"context"
	"database/sql"
	"fmt"
	"log"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	_ "modernc.org/sqlite"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/flow"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store/sqlite"
)

// VM is the state that the steps share; it is stored after each.
type VM struct{ Disk, Nic, Host string }

// createVM kills its process once, in the middle of its second step.
func createVM(dir string) *flow.Flow[VM] {
	return flow.New[VM]("create-vm").
		Then("disk", func(_ context.Context, v *VM) error {
			v.Disk = "disk-1"
			fmt.Println("  makes", v.Disk)
			return nil
		}, func(_ context.Context, v *VM) error {
			fmt.Println("  removes", v.Disk)
			return nil
		}).
		Then("nic", func(_ context.Context, v *VM) error { // may run twice, so it asks for the same thing
			fmt.Println("  asks for a NIC")
			if f, err := os.OpenFile(filepath.Join(dir, "killed"), os.O_CREATE|os.O_EXCL, 0o600); err == nil {
				_ = f.Close()
				p, err := os.FindProcess(os.Getpid())
				if err != nil {
					return err
				}
				if err := p.Kill(); err != nil {
					return err
				}
				select {} // it is dead any moment
			}
			v.Nic = "nic-1"
			return nil
		}, nil).
		Then("start", func(_ context.Context, v *VM) error {
			v.Host = "host-a"
			fmt.Println("  starts it on", v.Host)
			return nil
		}, nil)
}

// work is one process: it submits the job, unless that is there already, and waits for its end.
func work(ctx context.Context, dir string) error {
	dsn, err := sqlite.DSN(filepath.Join(dir, "drover.db"))
	if err != nil {
		return err
	}
	sqldb, err := sql.Open("sqlite", dsn)
	if err != nil {
		return err
	}
	defer sqldb.Close()
	db := sqlite.New(bun.NewDB(sqldb, sqlitedialect.New()), sqlite.Config{})
	if err := db.Migrate(ctx); err != nil {
		return err
	}
	// Under its name it replaces the node that was killed at once, not when the lease of that is over.
	m, err := job.New(job.Config{DB: db, Env: drover.Env{Node: "n1", Logger: slog.New(slog.DiscardHandler)}})
	if err != nil {
		return err
	}
	flow.Register(m, createVM(dir))
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	j, err := m.Submit(ctx, job.Request{Kind: "flow:create-vm", Args: VM{}, Idem: "the only one"})
	if err == nil {
		j, err = m.Wait(ctx, j.ID)
	}
	if err != nil {
		stop()
		return err
	}
	vm, err := job.Result[VM](j)
	if err != nil {
		stop()
		return err
	}
	fmt.Printf("%s: %s, %s, %s\n", j.State, vm.Disk, vm.Nic, vm.Host)
	for s, err := range flow.Journal(ctx, m, j.ID) {
		if err != nil {
			stop()
			return err
		}
		fmt.Println(" ", s.Path, s.State)
	}
	stop()
	return <-ended
}

const child = "FLOW_DURABLE_DIR" // set: this is a process that works, in that directory

func run() error {
	if dir := os.Getenv(child); dir != "" {
		return work(context.Background(), dir)
	}
	dir, err := os.MkdirTemp("", "flow-durable")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for _, name := range []string{"first", "second"} {
		fmt.Println(name, "process")
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), child+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		fmt.Print(string(out))
		if name == "first" && err != nil {
			fmt.Println("  was killed")
		} else if err != nil {
			return err
		}
	}
	return nil
}

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}
