package sandbox

import (
	"strings"
	"testing"
)

func TestOptionsValidate(t *testing.T) {
	good := Options{Dir: "/d", Hosts: 3, CacheDir: "/c"}
	cases := map[string]struct {
		reason string
		change func(*Options)
		want   string
	}{
		"defaults":        {reason: "only directory and number must be given", change: func(*Options) {}},
		"no directory":    {reason: "everything belongs to a directory", change: func(o *Options) { o.Dir = "" }, want: "directory is not set"},
		"no hosts":        {reason: "nothing to make", change: func(o *Options) { o.Hosts = 0 }, want: "0 hosts"},
		"too many hosts":  {reason: "a /24 has no more addresses", change: func(o *Options) { o.Hosts = 201 }, want: "201 hosts"},
		"bad prefix":      {reason: "node names are DNS labels", change: func(o *Options) { o.Prefix = "Host_" }, want: "cannot be a host name"},
		"path in prefix":  {reason: "names become folders", change: func(o *Options) { o.Prefix = "../x" }, want: "cannot be a host name"},
		"long prefix":     {reason: "machine names have 64 characters", change: func(o *Options) { o.Prefix = strings.Repeat("a", 40) }, want: "cannot be a host name"},
		"small disk":      {reason: "the base file system does not fit", change: func(o *Options) { o.Disk = 1 << 20 }, want: "too small"},
		"negative memory": {reason: "the kernel would take it for no limit", change: func(o *Options) { o.Memory = -1 }, want: "memory limit"},
		"root as user":    {reason: "root has no password", change: func(o *Options) { o.Users = []User{{Name: "root"}} }, want: "user name"},
		"injected user":   {reason: "the name becomes a file name and a sudoers line", change: func(o *Options) { o.Users = []User{{Name: "a b"}} }, want: "user name"},
		"unknown sudo":    {reason: "a typing error must not give or take rights", change: func(o *Options) { o.Users = []User{{Name: "ops", Sudo: "all"}} }, want: "unknown sudo"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			options := good
			tc.change(&options)
			options, err := options.withDefaults()
			if err != nil {
				t.Fatal(err)
			}
			err = options.validate()
			if tc.want == "" {
				if err != nil {
					t.Errorf("%s: %v", tc.reason, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: got %v, want %q", tc.reason, err, tc.want)
			}
		})
	}
}

func TestRequireToolsNamesThePackages(t *testing.T) {
	err := requireTools(map[string]string{"no-such-program-b": "pkg-2", "no-such-program-a": "pkg-1", "sh": "dash"})
	want := "cannot make sandbox hosts: no-such-program-a, no-such-program-b not found, install with: apt-get install pkg-1 pkg-2"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestSudoRule(t *testing.T) {
	cases := map[string]struct {
		reason string
		sudo   Sudo
		want   string
	}{
		"none":     {reason: "no line, no right", sudo: SudoNone, want: ""},
		"default":  {reason: "rights are only given when asked for", sudo: "", want: ""},
		"password": {reason: "sudo asks", sudo: SudoPassword, want: "ops ALL=(ALL:ALL) ALL"},
		"nopasswd": {reason: "sudo asks nothing", sudo: SudoNoPassword, want: "ops ALL=(ALL:ALL) NOPASSWD: ALL"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := (User{Name: "ops", Sudo: tc.sudo}).sudoRule(); got != tc.want {
				t.Errorf("%s: got %q", tc.reason, got)
			}
		})
	}
}
