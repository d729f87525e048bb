package main

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// op is one thing that happened to a job. Times are in any unit, on one clock.
type op struct {
	What   string `json:"what"` // submit, claim, write, done, read
	Job    string `json:"job"`
	Key    string `json:"key,omitempty"`
	Limit  int    `json:"limit,omitempty"`
	Epoch  int64  `json:"epoch,omitempty"` // of the run; of a read: of the result, 0 = none
	Call   int64  `json:"call"`
	Return int64  `json:"return,omitempty"` // 0: unknown
	Batch  string `json:"batch,omitempty"`  // submitted together, in order
}

func (o op) operation(client int, in any) porcupine.Operation {
	end := o.Return
	if end == 0 {
		end = math.MaxInt64
	}
	return porcupine.Operation{ClientId: client, Input: in, Call: o.Call, Return: max(end, o.Call)}
}

type history struct {
	jobs map[string][]op
	keys map[string][]op
	ops  int
}

func newHistory() *history { return &history{jobs: map[string][]op{}, keys: map[string][]op{}} }

func (h *history) add(o op) {
	h.ops++
	h.jobs[o.Job] = append(h.jobs[o.Job], o)
	if o.Key != "" && o.What != "write" && o.What != "read" {
		h.keys[o.Key] = append(h.keys[o.Key], o)
	}
}

type verdict struct {
	bad, unknown []string
}

// judge looks at each job and each key alone: what is good in its parts is good as a whole.
func (h *history) judge(budget time.Duration) (v verdict) {
	look := func(name string, m porcupine.Model, ops []porcupine.Operation, tell []op) {
		switch porcupine.CheckOperationsTimeout(m, ops, budget) {
		case porcupine.Illegal:
			v.bad = append(v.bad, name+": "+story(tell))
		case porcupine.Unknown:
			v.unknown = append(v.unknown, name)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(h.jobs)) {
		var ops []porcupine.Operation
		for i, o := range h.jobs[id] {
			ops = append(ops, o.operation(i, o))
		}
		look("job "+id, life, ops, h.jobs[id])
	}
	for _, key := range slices.Sorted(maps.Keys(h.keys)) {
		look("key "+key, turns(h.keys[key][0].Limit), batched(bounded(h.keys[key])), h.keys[key])
	}
	return v
}

// bounded ends what nobody saw the end of: a claim was committed when the next thing happened to its job, and an end when the next
// claim of the key began, which found the turn free. Without that the search has too many orders to try.
func bounded(all []op) []op {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b op) int { return cmp.Compare(a.Call, b.Call) })
	for i := range all {
		o := &all[i]
		if o.Return != 0 || o.What == "submit" {
			continue
		}
		for _, next := range all[i+1:] {
			if o.What == "claim" && next.Job == o.Job || o.What == "done" && next.What == "claim" && next.Job != o.Job {
				o.Return = next.Call
				break
			}
		}
	}
	return all
}

// batched makes one operation of jobs that were submitted together.
func batched(all []op) (ops []porcupine.Operation) {
	at := map[string]int{}
	for i, o := range all {
		in := turn{What: o.What, Jobs: []string{o.Job}}
		if n, ok := at[o.Batch]; ok && o.What == "submit" && o.Batch != "" {
			was := ops[n].Input.(turn)
			ops[n].Input = turn{was.What, append(was.Jobs, o.Job)}
			continue
		}
		if o.What == "submit" {
			at[o.Batch] = len(ops)
		}
		ops = append(ops, o.operation(i, in))
	}
	return ops
}

func story(ops []op) string {
	slices.SortStableFunc(ops, func(a, b op) int { return int(a.Call - b.Call) })
	var b strings.Builder
	for i, o := range ops {
		if i == 60 {
			fmt.Fprintf(&b, " … %d more", len(ops)-i)
			break
		}
		fmt.Fprintf(&b, " %s %s@%d [%d, %d]", o.What, o.Job, o.Epoch, o.Call, o.Return)
	}
	return b.String()
}
