package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// load is CPU time used so far, in seconds: of the whole machine, and of us with the server.
type load struct {
	at        time.Time
	all, ours float64
}

const ticks = 100 // per second, on every Linux

func readLoad() load {
	l := load{at: time.Now()}
	b, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(b), "\n")
	for i, f := range strings.Fields(line) {
		if i == 0 || i == 4 || i == 5 { // cpu, idle, iowait
			continue
		}
		n, _ := strconv.ParseFloat(f, 64)
		l.all += n / ticks
	}
	l.ours = tree(os.Getpid()) // the server and pgbench are our children
	return l
}

// otherSince is what everybody else used meanwhile, in cores.
func (l load) otherSince(o load) float64 {
	return max(0, ((l.all-o.all)-(l.ours-o.ours))/l.at.Sub(o.at).Seconds())
}

// tree adds up the CPU time of a process, its ended children, and its living ones.
func tree(pid int) (sum float64) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	if i := strings.LastIndexByte(string(b), ')'); i >= 0 {
		f := strings.Fields(string(b[i+1:]))
		for _, k := range []int{11, 12, 13, 14} { // utime, stime, cutime, cstime
			n, _ := strconv.ParseFloat(f[k], 64)
			sum += n / ticks
		}
	}
	kids, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, k := range kids {
		b, _ := os.ReadFile(k)
		for _, c := range strings.Fields(string(b)) {
			n, _ := strconv.Atoi(c)
			sum += tree(n)
		}
	}
	return sum
}
