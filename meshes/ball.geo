// The unit ball in tetrahedra.
SetFactory("OpenCASCADE");
Sphere(1) = {0, 0, 0, 1};
Physical Volume("ball") = {1};
Mesh.MeshSizeMin = 0.3;
Mesh.MeshSizeMax = 0.3;
Mesh.Algorithm3D = 1;                  // Delaunay
Mesh.Optimize = 1;
Mesh.MshFileVersion = 2.2;
Mesh.RandomSeed = 1;
