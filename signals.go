package drover

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
)

// A process has its signals once.
var signalsTaken atomic.Bool

// Signals has the process's signals steer s until stop is called: SIGTERM and SIGINT mean Shutdown, a second one of either
// means Close, and from then on they have their default action, so that a third kills. SIGHUP means Reload if a component is
// a Reloader, else nothing; one that comes during a Reload means one more after it. Other signals are left alone, and
// without Signals all are. Give Run the ctx; while another Signals is in force it has ended already, and Run gives
// ErrSignals.
//
//	ctx, stop := drover.Signals(ctx, &s)
//	defer stop()
//	os.Exit(drover.ExitCode(s.Run(ctx)))
func Signals(ctx context.Context, s *Service) (c context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	if !signalsTaken.CompareAndSwap(false, true) {
		cancel(ErrSignals)
		return ctx, func() {}
	}
	ends, hups := make(chan os.Signal, 3), make(chan os.Signal, 1)
	signal.Notify(ends, syscall.SIGTERM, syscall.SIGINT)
	signal.Notify(hups, syscall.SIGHUP)
	w := &watcher{s: s, env: s.Env.Defaults(), over: make(chan struct{})}
	w.env.Go("signals", func() { w.end(ends) })
	w.env.Go("signals/reload", func() { w.reload(ctx, hups) })
	return ctx, sync.OnceFunc(func() {
		signal.Stop(ends)
		signal.Stop(hups)
		close(w.over)
		cancel(nil)
		signalsTaken.Store(false)
	})
}

type watcher struct {
	s    *Service
	env  Env
	over chan struct{} // closed by stop
}

// end takes the first two signals that end the service.
func (w *watcher) end(c chan os.Signal) {
	for n := 1; ; n++ {
		var got os.Signal
		select {
		case got = <-c:
		case <-w.over:
			return
		}
		w.env.Logger.Info("service.signal", "signal", got.String(), "number", n)
		if n == 2 {
			signal.Stop(c)
			w.s.ask(stopNow)
			return
		}
		w.s.ask(drainFirst)
	}
}

// reload runs one Reload at a time; c holds one signal more.
func (w *watcher) reload(ctx context.Context, c chan os.Signal) {
	for {
		select {
		case <-c:
		case <-w.over:
			return
		}
		w.env.Logger.Info("service.signal", "signal", "hangup")
		if err := w.s.Reload(ctx); err != nil {
			w.env.Logger.Error("service.reload", "error", err)
		}
	}
}
