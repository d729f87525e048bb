package postgres_test

import (
	"fmt"
	"strings"
)

// crowd fills a database with n jobs: 5 % run, 35 % wait, half of them in a line, 10 % are parked, 20 % are final and 30 % are
// for tomorrow. One in ten is a child. Each of 20 000 keys has its holder.
func crowd(n int) []string {
	ranges := strings.NewReplacer(
		"RUNNING", fmt.Sprintf("generate_series(1, %d) i", n/20), "WAITING", fmt.Sprintf("generate_series(%d, %d) i", n/20+1, 4*n/10),
		"PARKED", fmt.Sprintf("generate_series(%d, %d) i", 4*n/10+1, n/2), "FINAL", fmt.Sprintf("generate_series(%d, %d) i", n/2+1, 7*n/10),
		"TOMORROW", fmt.Sprintf("generate_series(%d, %d) i", 7*n/10+1, n), "ALL", fmt.Sprintf("generate_series(1, %d) i", n), "KEYS", fmt.Sprint(n/20),
	)
	var out []string
	for _, q := range []string{
		`INSERT INTO drover_session (epoch, name, incarnation, store, process, until, state, kinds, queues) VALUES (1, 'n', 1, 's', 'p', now() + interval '1 h', 'active', '{}', '{}')`,
		`INSERT INTO drover_job (id, seq, created, run_at, priority, bits, max_attempts, timeout, queue, kind, key, print, args, parent, root, resource, account, name, idem)
 SELECT md5(i::text)::uuid, i, now(), now(), 0, 0, 5, 0, 'q', 'k', CASE WHEN i % 2 = 0 THEN 'vm' || chr(31) || i % KEYS END, 'p', '{}',
   CASE WHEN i % 10 = 0 THEN md5((i / 10)::text)::uuid END, CASE WHEN i % 10 = 0 THEN md5((i / 10)::text)::uuid END,
   CASE WHEN i % 4 = 0 THEN 'vm/' || i % 1000 END, CASE WHEN i % 5 = 0 THEN 'a' || i % 50 END, CASE WHEN i % 100 = 0 THEN 'n' || i END, CASE WHEN i % 3 = 0 THEN 'i' || i END FROM ALL`,
		`INSERT INTO drover_ident (name, id) SELECT 'i' || chr(31) || i, md5(i::text)::uuid FROM ALL WHERE i % 3 = 0`,
		`INSERT INTO drover_pend (run_at, seq, id, place, priority, mode, queue, kind, key)
 SELECT now(), i, md5(i::text)::uuid, CASE WHEN i % 2 = 0 THEN i END, 0, CASE WHEN i % 2 = 0 THEN 2 ELSE 0 END, 'q', 'k', CASE WHEN i % 2 = 0 THEN 'vm' || chr(31) || i % KEYS END FROM WAITING`,
		`INSERT INTO drover_pend (run_at, seq, id, place, priority, mode, queue, kind, epoch, rev, runs) SELECT now(), i, md5(i::text)::uuid, i, 0, 5, 'q', 'k', 3, 2, 1 FROM PARKED`,
		`INSERT INTO drover_pend (run_at, seq, id, priority, mode, queue, kind) SELECT now() + interval '1 d', i, md5(i::text)::uuid, 0, 3, 'q', 'k' FROM TOMORROW`,
		`INSERT INTO drover_active (id, seq, epoch, session, place, started, rev, runs, slot, key)
 SELECT md5(i::text)::uuid, i, 5, 1, i, now(), 2, 1, CASE WHEN i % 2 = 0 THEN 0 END, CASE WHEN i % 2 = 0 THEN 'vm' || chr(31) || i END FROM RUNNING`,
		`INSERT INTO drover_done (seq, id, epoch, ended, rev, runs, state) SELECT i, md5(i::text)::uuid, 4, now() - i * interval '10 ms', 3, 1, CASE i % 100 WHEN 0 THEN 6 WHEN 1 THEN 7 ELSE 5 END FROM FINAL`,
		`INSERT INTO drover_extra (id, rev, percent) SELECT md5(i::text)::uuid, 1, 5 FROM ALL WHERE i % 10 < 2`,
		`INSERT INTO drover_step (id, name, n, at, epoch, node) SELECT md5((i / 4)::text)::uuid, 's' || i % 4, i, now(), 5, 'n' FROM ALL WHERE i % 8 < 4`,
		`INSERT INTO drover_journal (id, n, at, epoch, node, text, failure) SELECT md5((i / 4)::text)::uuid, i, now(), 5, 'n', 't', false FROM ALL WHERE i % 8 < 4`,
		`INSERT INTO drover_park (id, seq, wake_at) SELECT md5(i::text)::uuid, i, CASE WHEN i % 2 = 0 THEN now() + interval '1 d' END FROM PARKED`,
		`INSERT INTO drover_join (target, waiter, seq) SELECT md5((i / 8)::text)::uuid, md5(i::text)::uuid, i FROM PARKED`,
		`INSERT INTO drover_topic (topic, seq, id, parked) SELECT 't' || i % 1000, i, md5(i::text)::uuid, true FROM PARKED`,
		`INSERT INTO drover_inbox (id, topic) SELECT md5(i::text)::uuid, 't' || i % 1000 FROM PARKED WHERE i % 2 = 0`,
		`INSERT INTO drover_line (key, used) SELECT 'lim' || chr(31) || i, now() FROM generate_series(1, 20000) i`,
		`INSERT INTO drover_lease (name, session, epoch) SELECT 'l' || i, i % 50, i FROM generate_series(1, 10000) i`,
		`INSERT INTO drover_ledger (name, due, session, epoch, attempts) SELECT 'l' || i, now(), 1, i, 1 FROM generate_series(1, 10000) i`,
		`INSERT INTO drover_host (host, record, generation, at) SELECT 'h' || i, repeat('{}', 400), 1, 0 FROM generate_series(1, 500) i`,
		`INSERT INTO drover_claim (id, host, workload, state, amount, epoch, owner, created, expires)
 SELECT md5(i::text), 'h' || i % 500, 'w' || i, 'committed', '{}', 1, 'o', 0, 0 FROM generate_series(1, 20000) i`,
		`ANALYZE`,
	} {
		out = append(out, ranges.Replace(q))
	}
	return out
}
