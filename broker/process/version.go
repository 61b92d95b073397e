package process

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/usher-broker/usher/proto"
)

// commit is the commit that the binary was built from. The Makefile sets it.
var commit = ""

// module is the path of this module.
const module = "github.com/usher-broker/usher"

// Version returns the version of the running binary. For a version that is not
// released it has the first 7 digits of the commit as well, if that is known:
// "0.2.0-dev+1a2b3c4".
func Version() string {
	if c := Commit(); strings.HasSuffix(proto.Version, "-dev") && c != "" {
		return proto.Version + "+" + c[:min(7, len(c))]
	}
	return proto.Version
}

// Commit returns the first 7 or more digits of the commit that the binary was
// built from, or "".
func Commit() string {
	if commit != "" {
		return commit
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Path != module { // the commit would be that of a game
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return s.Value[:12]
		}
	}
	return ""
}

// VersionCommand is the command that prints the version of the program.
type VersionCommand struct {
	OutputFlag `embed:""`
}

type versionJSON struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Commit  string `json:"commit"` // "" if it is not known
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
}

// Run prints the version.
func (c VersionCommand) Run(e *Env) error {
	v := versionJSON{e.Name, Version(), Commit(), runtime.Version(), runtime.GOOS, runtime.GOARCH}
	if c.JSON() {
		return WriteJSON(e.Out, v)
	}
	_, err := fmt.Fprintf(e.Out, "%s %s %s %s/%s\n", v.Name, v.Version, v.Go, v.OS, v.Arch)
	return err
}
