// Package agent is asynchronous HTTP between a control plane and the agents on its hosts: a node tells an agent to do something,
// and hears back when it is done, which may be minutes later. ZStack's RESTFacade is the model.
//
//	c, err := agent.New(agent.Config{Callback: "https://node-1:8443", Pending: db.Agents(), Tx: db, Notify: db.Notifier()})
//	mux.Handle("/drover/agent/", c.Handler())          // agents call back here
//	go c.Run(ctx)
//	vm, err := agent.Call[Started](ctx, c, "https://host-7/vm/start", Start{VM: "42"}, agent.Token("vm/42", tok.Store, tok.Epoch))
//
// On the host:
//
//	s, err := agent.NewServer(agent.ServerConfig{Nodes: []string{"https://node-1:8443"}, StateFile: "/var/lib/a/tokens", Stores: []string{id}})
//	agent.Handle(s, "/vm/start", func(ctx context.Context, r Start) (Started, error) { … })
//	go s.Run(ctx)
//	http.Server{Handler: s}
//
// Inside a job, Start with agent.Task(id + "/start") and then Wait make a step that runs once on the host however often the job's
// node dies.
//
// # Guarantees
//
//   - A call ends by its absolute deadline, fixed at entry, with exactly one result; what comes later is dropped.
//   - One task id runs once in the life of an agent, however often and from wherever it is sent.
//   - Only who knows the task's key gives it a result; the agent calls back to the nodes it is configured for and nobody else.
//   - With StateFile a token never passes that is lower than one which has passed for the same name, also after a restart.
//   - With Pending a result that reached any node reaches any waiter, also after all nodes were restarted.
//   - A dead host uses its own slots and nobody else's. No goroutine but the caller's waits for a task.
//   - When nobody waits any more, the agent is told, and its handler's deadline is the caller's.
//
// # Not guaranteed
//
//   - What happened after ErrTimeout and ErrTaskLost: the handler may have run, or be running. NotRun tells what surely has not.
//   - That a task survives its agent: one that is restarted has forgotten what it ran, and a task sent again runs again.
//   - Secrecy and proof of who asks: that is TLS's. A task's results are told to whoever may talk to the agent and knows its id.
package agent
