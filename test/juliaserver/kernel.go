package juliaserver

// Kernel stands in for IJulia, which needs binaries that only its own servers
// have: its kernel gives every cell to a Julia of its own.
func Kernel() Package {
	return Package{
		Name: "IJulia", UUID: "7073ff75-c697-5162-941a-fcdaad2a7d2a", Version: "1.99.0",
		Files: map[string]string{"src/IJulia.jl": kernelJulia, "src/kernel.py": kernelPython},
	}
}

const kernelJulia = `module IJulia

const program = joinpath(@__DIR__, "kernel.py")

function installkernel(name, options...)
    dir = joinpath(ENV["JUPYTER_DATA_DIR"], "kernels", lowercase("$name-$(VERSION.major).$(VERSION.minor)"))
    mkpath(dir)
    python = joinpath(dirname(ENV["JUPYTER"]), "python")
    words = [python, program, joinpath(Sys.BINDIR, "julia"), options..., "-f", "{connection_file}"]
    write(joinpath(dir, "kernel.json"), """
    {"display_name": "$name $(VERSION.major).$(VERSION.minor)", "language": "julia", "argv": [$(join(repr.(String.(words)), ", "))]}
    """)
end

end
`

const kernelPython = `import subprocess
import sys

from ipykernel.kernelapp import IPKernelApp
from ipykernel.kernelbase import Kernel

split = sys.argv.index("-f")
julia, sys.argv[1:] = sys.argv[1:split], sys.argv[split:]


class Julia(Kernel):
    implementation, implementation_version, banner = "stand-in", "1", ""
    language_info = {"name": "julia", "file_extension": ".jl", "mimetype": "text/x-julia"}

    async def do_execute(self, code, silent, store_history=True, user_expressions=None, allow_stdin=False, **more):
        done = subprocess.run([*julia, "-e", code], capture_output=True, text=True)
        if not silent:
            for name, text in (("stdout", done.stdout), ("stderr", done.stderr)):
                self.send_response(self.iopub_socket, "stream", {"name": name, "text": text})
        reply = {"status": "ok", "execution_count": self.execution_count, "payload": [], "user_expressions": {}}
        if done.returncode:
            reply = {"status": "error", "ename": "Julia", "evalue": done.stderr, "traceback": done.stderr.splitlines(), "execution_count": self.execution_count}
            self.send_response(self.iopub_socket, "error", reply)
        return reply


IPKernelApp.launch_instance(kernel_class=Julia)
`
