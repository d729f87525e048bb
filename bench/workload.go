package main

// workload is a line of the table: what is measured, and what must hold.
type workload struct {
	id, text, unit string
	run            func(b *bench) (figures, error)
	bars           []bar
}

// ownP1 is a figure: the median in relation to drover's own P1, measured by turns with it.
const ownP1 = "share of own P1"

var workloads = []workload{
	{"P1", "waiting jobs, one node works them all, tuned", "jobs/s", p1, []bar{{"ratio", ">=", 2.5}}},
	{"P2", "as P1, defaults of both", "jobs/s", p2, []bar{{"ratio", ">=", 20}}},
	{"P3", "as P1, every job with a key of its own, limit 1 (River: no keys)", "jobs/s", p3, []bar{{"ratio", ">=", 1.8}, {ownP1, ">=", 0.75}}},
	{"P4", "1 000 keys round-robin, limit 1, first in first out", "jobs/s", p4,
		[]bar{{ownP1, ">=", 0.65}, {"order violations", "<=", 0}, {"overlaps", "<=", 0}}},
	{"P5", "one key, limit 1: pure hand-off", "jobs/s", p5,
		[]bar{{"median", ">=", 1300}, {"gap p50 ms", "<=", 1.5}, {"order violations", "<=", 0}, {"overlaps", "<=", 0}}},
	{"P6", "single Submit, 16 goroutines", "jobs/s", p6, []bar{{"ratio", ">=", 1.6}}},
	{"P7", "SubmitMany of 10 000 (River: InsertMany)", "jobs/s", p7, []bar{{"ratio", ">=", 1.6}}},
	{"P8", "submit to start on an idle node, defaults of both; pairs are 30 ms apart", "ms", p8,
		[]bar{{"p50 ms", "<=", 3}, {"p99 ms", "<=", 15}, {"second later than first, p50 ms", "<=", 0.5}}},
	{"P9", "as P1, with a million jobs waiting behind and a million finished", "jobs/s", p9, []bar{{ownP1, ">=", 0.9}}},
	{"P10", "submit and work for 60 s while an old REPEATABLE READ transaction stays open: the last 10 s", "jobs/s", p10,
		[]bar{{"share of seconds 2 to 10", ">=", 0.8}}},
	{"P11", "as P1, with a million jobs scheduled for tomorrow", "jobs/s", p11, []bar{{ownP1, ">=", 0.95}, {"rows read/s when idle", "<=", 1000}}},
	{"P12", "kill -9 of the node that runs 1 000 jobs, until all run elsewhere", "s", p12, []bar{{"later than the lease, s", "<=", 1}}},
	{"P13", "as P1, on 4 nodes (processes)", "jobs/s", p13, []bar{{ownP1, ">=", 0.9}, {"most off the mean", "<=", 0.2}}},
	{"P14", "durable workflow of 3 steps (DBOS: queue)", "flows/s", p14, []bar{{"ratio", ">=", 4}}},
	{"P15", "50 idle nodes, 100 000 finished jobs", "statements per node and s", p15, []bar{{"median", "<=", 2}, {"WAL bytes beyond heartbeats", "<=", 0}}},
	{"P16", "a node's memory per running job, 100 000 of them, stacks included", "KiB", p16, []bar{{"median", "<=", 6}, {"KiB per waiting job", "<=", 0.01}}},
	{"P17", "memory store, in process: submit, work, wait", "jobs/s", p17, []bar{{"median", ">=", 400_000}}},
	{"P18", "syncqueue.Local, a task of one key", "ns", p18, []bar{{"median", "<=", 200}, {"ns with 10 000 keys", "<=", 500}, {"allocations", "<=", 3}}},
	{"P19", "dispatch: six stages, 10 parameters, sync", "ns", p19, []bar{{"median", "<=", 2000}, {"allocations", "<=", 12}}},
	{"P20", "periodic: 100 000 tasks of 10 s, 1 min, 10 min and 1 h (gocron or robfig/cron, whichever takes less)", "ms of CPU per second", p20,
		[]bar{{"share of the better's CPU", "<=", 0.3}, {"start lateness p99 ms", "<=", 5}, {"drift over 1 000 runs, ns", "<=", 0}}},
	{"P21", "servicegroup: 10 000 members that beat each 10 s, and one that watches: PostgreSQL's processor time", "cores", p21,
		[]bar{{"median", "<=", 0.1}, {"view refresh p50 ms", "<=", 50}}},
	{"P22", "ring: the owner of a key among 10 members", "ns", p22, []bar{{"median", "<=", 60}, {"ns with 100 members", "<=", 200}, {"allocations", "<=", 0}}},
	{"P23", "bus: calls over memory, two nodes", "calls/s", p23,
		[]bar{{"median", ">=", 50_000}, {"allocations", "<=", 12}, {"overhead over bare NATS, %", "<=", 25}, {"overhead over bare RabbitMQ, %", "<=", 25}}},
	{"P24", "libvirt: statistics of 1 000 defined machines in one call (go-libvirt)", "µs of the client's CPU", p24,
		[]bar{{"share of CPU, state", "<=", 0.25}, {"share of CPU, all", "<=", 0.25}, {"allocations, state", "<=", 5000}, {"allocations, all", "<=", 20_000}}},
	{"P26", "refserver: listVirtualMachines by name over 1 000 machines, clients in the same process", "requests/s", p26,
		[]bar{{"median", ">=", 3000}, {"MiB of 1 000 holds", "<=", 40}, {"queries/s of 1 000 holds", "<=", 1}}},
	{"P27", "simulator: scheduling points, 3 nodes", "points/s", p27, []bar{{"median", ">=", 100_000}}},
	{"P28", "P1 with OpenTelemetry's SDK, sampling off (alternative: without)", "jobs/s", p28, []bar{{"ratio", ">=", 0.95}}},
}
