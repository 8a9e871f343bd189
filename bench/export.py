"""placeholder."""
import tensorflow as tf
import math
from pathlib import Path
def save_vit(folder, size, patch, width, depth, heads, hidden, tags, seed=0):
    random = tf.random.Generator.from_seed(seed)
    class ViT(tf.Module):
        def __init__(self):
            super().__init__()
            self.n=0
            w=lambda *s: self.var(s, 1/math.sqrt(math.prod(s[:-1])))
            tokens=(size//patch)**2+1
            self.patch=w(patch,patch,3,width); self.patch_b=self.var((width,),.02)
            self.cls=self.var((1,1,width),.02); self.pos=self.var((1,tokens,width),.02)
            self.blocks=[]
            for _ in range(depth):
                b={}
                for n in ("n1","n2"):
                    b[n+"g"]=self.var((width,),.02,1.0); b[n+"b"]=self.var((width,),.02)
                for n in "qkv":
                    b[n]=self.var((width,heads,width//heads),width**-.5); b[n+"b"]=self.var((heads,width//heads),.02)
                b["o"]=self.var((heads,width//heads,width),width**-.5); b["ob"]=self.var((width,),.02)
                b["m1"]=w(width,hidden); b["m1b"]=self.var((hidden,),.02)
                b["m2"]=w(hidden,width); b["m2b"]=self.var((width,),.02)
                self.blocks.append(b)
            self.ng=self.var((width,),.02,1.0); self.nb=self.var((width,),.02)
            self.head=w(width,tags); self.head_b=self.var((tags,),.02)
        def var(self,s,std,mean=0.0):
            return tf.Variable(random.normal(s,mean,std))
        def norm(self,x,g,b):
            m,v=tf.nn.moments(x,[-1],keepdims=True)
            return tf.nn.batch_normalization(x,m,v,b,g,1e-6)
        def body(self,images):
            x=images/127.5-1
            x=tf.nn.bias_add(tf.nn.conv2d(x,self.patch,patch,"VALID"),self.patch_b)
            n=tf.shape(x)[0]
            x=tf.reshape(x,[n,(size//patch)**2,width])
            x=tf.concat([tf.broadcast_to(self.cls,[n,1,width]),x],1)+self.pos
            for b in self.blocks:
                y=self.norm(x,b["n1g"],b["n1b"])
                q,k,v=(tf.einsum("abc,cde->abde",y,b[l])+b[l+"b"] for l in "qkv")
                q=q*(width//heads)**-.5
                a=tf.nn.softmax(tf.einsum("aecd,abcd->acbe",k,q))
                y=tf.einsum("acbe,aecd->abcd",a,v)
                x=x+tf.einsum("abcd,cde->abe",y,b["o"])+b["ob"]
                y=self.norm(x,b["n2g"],b["n2b"])
                y=tf.nn.gelu(tf.matmul(y,b["m1"])+b["m1b"])
                x=x+tf.matmul(y,b["m2"])+b["m2b"]
            x=self.norm(x,self.ng,self.nb)[:,0]
            return tf.sigmoid(tf.matmul(x,self.head)+self.head_b)
    m=ViT()
    m.inner=tf.function(m.body,input_signature=[tf.TensorSpec([None,size,size,3],name="input_1")])
    m.serve=tf.function(lambda input_1:{"predictions_sigmoid":m.inner(input_1)},input_signature=[tf.TensorSpec([None,size,size,3],name="input_1")])
    tf.saved_model.save(m,str(folder),signatures={"serving_default":m.serve})
    (folder/"selected_tags.csv").write_text("tag_id,name,category,count\n"+"".join(f"{i},tag_{i},0,5\n" for i in range(tags)))
