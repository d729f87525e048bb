package testkit

// Names of the shared operations: what a trace shows and what Fail, FailAfter and Delay match.
const (
	opBegin  = "store.tx.begin"
	opCommit = "store.tx.commit"
	opHint   = "store.hint"
	opRead   = "store.read"

	opMembers = "store.members." // prefix of those of the membership driver

	opHyp = "hyp." // prefix of those of hosts

	opSend    = "bus.send"
	opDeliver = "bus.deliver" // an event of the world: Fail and the others match bus.send only

	heldStore = "held" // the end of an operation of the store that its node cannot hear of yet
	heldBus   = "held by the bus"
	heldHost  = "held by a host"
)

// ops are all operations, writes those that a read-only store refuses.
var ops = []string{
	opBegin, opCommit, opRead,
	"store.jobs.insert", "store.jobs.list", "store.jobs.claim", "store.jobs.move", "store.jobs.log", "store.jobs.finish",
	"store.queues.list", "store.queues.policy", "store.queues.audit",
	"store.leases.open", "store.leases.renew", "store.leases.close", "store.leases.sweep", "store.leases.list",
	"store.leases.acquire", "store.leases.release",
	"store.ledger.take", "store.ledger.done", "store.ledger.last",
	opMembers + "join", opMembers + "beat", opMembers + "leave", opMembers + "list", opMembers + "mark", opMembers + "forget",
	"store.tracker.hosts", "store.tracker.loadhost", "store.tracker.savehost", "store.tracker.deletehost",
	"store.tracker.putclaim", "store.tracker.setclaim", "store.tracker.settle",
	"store.outbox.add", "store.outbox.claim", "store.outbox.done", "store.outbox.fail", "store.outbox.list",
	opSend,
	opHyp + "info", opHyp + "list", opHyp + "get", opHyp + "define", opHyp + "undefine", opHyp + "start", opHyp + "stop", opHyp + "pause",
	opHyp + "resume", opHyp + "reboot", opHyp + "resources", opHyp + "ping", opHyp + "save", opHyp + "dropsaved", opHyp + "fence",
	opHyp + "migrate", opHyp + "wait",
}

var writes = func() map[string]bool {
	m := map[string]bool{}
	for _, op := range ops {
		m[op] = true
	}
	for _, op := range []string{opBegin, opCommit, opRead, "store.jobs.list", "store.queues.list", "store.leases.list", "store.ledger.last",
		"store.tracker.hosts", "store.tracker.loadhost", "store.outbox.list", opMembers + "list", opSend} {
		m[op] = false
	}
	return m
}()
