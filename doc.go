// Package drover is the orchestration core of a cloud as a library: asynchronous jobs, turns per resource, command
// dispatch, flows with compensation, leases and placement, as small packages that a host application wires together. This
// package is the vocabulary they share, and this page is the map.
//
// Ten lines that submit a job and wait for it:
//
//	db := &memory.Store{} // or sqlite.New(…), postgres.New(…)
//	jobs, err := job.New(job.Config{DB: db})
//	if err != nil {
//		return err
//	}
//	job.Handle(jobs, "vm.start", func(ctx context.Context, a StartVM) (Started, error) { return start(ctx, a) })
//	var g drover.Group
//	g.Add("jobs", jobs)
//	go g.Run(ctx)
//	j, err := jobs.Submit(ctx, job.Request{Args: StartVM{ID: "42"}, Sync: syncqueue.Key{Kind: "vm", ID: "42"}})
//	j, err = jobs.Wait(ctx, j.ID) // on this node or any other
//
// # The map
//
//   - [github.com/drover-cloud/drover/store]: one transaction concept. store/memory is the reference, store/sqlite the
//     embedded durable one, store/postgres the one for clusters.
//   - [github.com/drover-cloud/drover/lease]: who may act: node sessions, named leases, fencing tokens.
//   - [github.com/drover-cloud/drover/syncqueue]: turns, within a process and across the cluster.
//   - [github.com/drover-cloud/drover/job]: asynchronous jobs.
//   - [github.com/drover-cloud/drover/dispatch]: named commands through a chain of stages, at once or as jobs.
//   - [github.com/drover-cloud/drover/flow]: steps with compensation, in place or durable inside a job.
//   - [github.com/drover-cloud/drover/periodic]: tasks on a timetable that does not drift, cron, once in the cluster.
//   - [github.com/drover-cloud/drover/servicegroup]: membership and liveness, a hint for placement and display.
//   - [github.com/drover-cloud/drover/bus]: events, casts and calls between nodes; bus/memory, bus/nats and bus/amqp carry them.
//   - [github.com/drover-cloud/drover/agent]: asynchronous HTTP calls to agents on hosts, and the agents' side.
//   - [github.com/drover-cloud/drover/ring]: which member owns a key, the same answer on every node.
//   - [github.com/drover-cloud/drover/hypervisor]: the face of a virtualization host; hypervisor/sim simulates one,
//     hypervisor/tracker says who holds how much of which.
//   - [github.com/drover-cloud/drover/testkit]: the whole cluster in one test, in virtual time, replayable by seed;
//     testkit/storetest and testkit/drivertest hold implementations to their interfaces.
//   - [github.com/drover-cloud/drover/console]: the operations page and its API as one http.Handler.
//   - cmd/drover: the operator's command, on the cluster's database.
//   - examples: quickstart, hosttx (a job in the host's own transaction), simulation, refserver (a small cloud controller).
//
// # This package
//
// A process is a [Service]: hooks around components that start in order, become ready, drain and stop. Ten lines, with the
// jobs from above and the process's signals:
//
//	s := drover.Service{Topic: "cloud", Version: version, DrainTimeout: time.Minute}
//	s.Init = func(ctx context.Context) error { return drover.WaitFor(ctx, s.Env, "database", sqldb.PingContext) }
//	s.Components.Add("jobs", jobs)
//	s.Components.Add("http", drover.Func(serve))
//	s.Components.Add("tasks", &tasks, drover.AfterReady())
//	ctx, stop := drover.Signals(context.Background(), &s)
//	defer stop()
//	os.Exit(drover.ExitCode(s.Run(ctx)))
//
// A component is handed an [Env] and has one lifecycle word, Run(ctx): there are no Start and Stop. The end of its ctx means
// stop now; Drain means finish what runs. A component that is all timing is a [Stepper], run by [Loop] in production and
// inline in tests. A [Group] starts components in order, restarts them where told, and stops them in reverse.
//
// # Guarantees
//
//   - Across the library: a committed job is never lost; its stored result comes from exactly one run; a key's limit is
//     never exceeded, and its turn is handed on in the transaction that frees it; Wait misses no completion; the same seed
//     gives the same trace in any simulation. The packages say the rest.
//   - After Group.Run has returned without [ErrStuck], none of its components' Run calls is still going on, nor anything
//     the Group has started for them.
//   - Components stop in exactly the reverse of their start.
//   - Service.Ready is never true before PostStart is done, nor after a stop has begun.
//   - A panic in a Run, a Step, or a goroutine of [Env.For] becomes the component's [*PanicError]; none is silent.
//   - No signal is touched without [Signals], and no exit, global logger or global provider at all.
//
// # Not guaranteed
//
//   - That code which ignores its ctx stops: it is named with its stack, counted and left behind.
//   - That goroutines a component starts by itself, past [Env], are found.
package drover
