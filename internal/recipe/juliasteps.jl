# Installs Julia's kernel and the packages of a project; for Julia 1.0 and later.
#
#   juliasteps.jl kernel PROJECT     IJulia, and a kernel that starts in PROJECT
#   juliasteps.jl install DIRECTORY  what the active project declares; its manifest is copied to DIRECTORY
#   juliasteps.jl precompile         compiles it, and the kernel as the project will see it
#
# What goes wrong is said in one line that begins with "julia:".

import Pkg

# The first of them that is there counts, as Julia has it.
function manifest()
    dir = dirname(Base.active_project())
    own = "-v$(VERSION.major).$(VERSION.minor)"
    names = ["JuliaManifest.toml", "Manifest.toml"]
    if VERSION >= v"1.10.8"
        names = vcat(["JuliaManifest$own.toml", "Manifest$own.toml"], names)
    end
    for name in names
        isfile(joinpath(dir, name)) && return joinpath(dir, name)
    end
    return nothing
end

function fail(text)
    println(stderr, "julia: ", join(split(text), " "))
    exit(1)
end

said(err) = sprint(showerror, err)

function install(store)
    file = manifest()
    committed = file === nothing ? nothing : read(file, String)
    try
        Pkg.instantiate()
    catch err
        fail(said(err))
    end
    file = manifest()
    # A project without packages gets none from older versions.
    file === nothing && return
    if committed !== nothing && read(file, String) != committed
        fail("the committed $(basename(file)) does not fit the project any more")
    end
    cp(file, joinpath(store, "Manifest.toml"); force = true)
end

# Not everything can be compiled ahead; what can't is compiled when it is used.
function precompile_all()
    try
        Pkg.precompile()
    catch err
        println("Not everything could be compiled ahead: ", said(err))
    end
end

if ARGS[1] == "kernel"
    try
        Pkg.add("IJulia")
    catch err
        fail("the kernel could not be installed: " * said(err))
    end
    @eval import IJulia
    Base.invokelatest(IJulia.installkernel, "Julia", "--project=" * ARGS[2])
elseif ARGS[1] == "install"
    install(ARGS[2])
elseif ARGS[1] == "precompile"
    precompile_all()
    try
        @eval import IJulia
    catch err
        fail("the kernel does not work with the packages of the project: " * said(err))
    end
end
