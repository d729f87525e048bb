// Package bus moves messages between the components and nodes of a cluster: events with many listeners, casts, and calls to
// endpoints with namespace, method and version.
//
//	b := bus.New(hub.Open("n1"), bus.Config{Env: env}) // a transport: bus/memory, bus/nats, bus/amqp
//	start := bus.Topic[Start, Started]{Name: "compute", Method: "start"}
//	start.Handle(b, func(ctx context.Context, r Start) (Started, error) { … })
//	go b.Run(ctx)
//	started, err := start.Call(ctx, b, "n2", Start{VM: "42"}) // "" any one, "#vm/42" the owner of a key, "*" all (Cast)
//	b.Subscribe("job.state", func(ctx context.Context, e bus.Event) { … })
//	b.Publish(ctx, tx, bus.Event{Subject: "vm.state.42"}) // within tx: sent if that commits, at least once
//
// What must survive a crash goes through the outbox (Publish and CastTx within a transaction) or is a job; all else is at
// most once, and the error says whether a handler may have run: NotRun, Unknown.
//
// # Guarantees
//
//   - A verb ends by its absolute deadline, fixed at entry, whatever else arrives and wherever it hangs. The deadline travels:
//     handlers' contexts end with it, clocks may differ.
//   - A handler never runs twice for one message within 10 minutes, or the last 10 000 messages.
//   - One dead peer stalls nobody else: each destination has a lane, a circuit and bounds of its own.
//   - A late reply is never given to another call; caller and handler never share memory.
//   - An event of a transaction is sent if and only if that commits, with one ID, in order of its key.
//   - A handler that waits for a call of its own takes no worker, so that calls in a circle end.
//
// # Not guaranteed
//
//   - Exclusion by key: the owner of a key is where work should go, and two views may differ for a moment. What must exclude is
//     a turn (syncqueue) or a lease.
//   - Order between casts or calls. Events of one publisher and subject keep theirs while their connection lasts.
//   - That a message is delivered twice to be sure: it is delivered at most once, the outbox apart.
package bus
